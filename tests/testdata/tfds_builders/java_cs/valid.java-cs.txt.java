public int validSize0() {return 0;} 
