public virtual int TrainSize0(){return 0;}
public virtual int TrainSize1(){return 1;}
