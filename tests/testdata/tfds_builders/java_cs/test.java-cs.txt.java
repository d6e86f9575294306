public int testSize0() {return 0;} 
