public int trainSize0() {return 0;} 
public int trainSize1() {return 1;} 
