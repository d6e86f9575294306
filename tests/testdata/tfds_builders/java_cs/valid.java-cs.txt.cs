public virtual int ValidSize0(){return 0;}
