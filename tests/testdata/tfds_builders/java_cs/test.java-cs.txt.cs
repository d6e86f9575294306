public virtual int TestSize0(){return 0;}
