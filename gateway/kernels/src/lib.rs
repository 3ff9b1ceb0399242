//! SM4 (GB/T 32907) and SM3 (GB/T 32905) with the vector instructions of the machine.
