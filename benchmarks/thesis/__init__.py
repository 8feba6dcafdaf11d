"""The results of C. Hahn, *Deep Spiking Q Networks* (master thesis, TU Munich 2020), run again beside its figures."""
