"""graphrt: an interpreter over serialized op graphs that runs, differentiates and trains them."""
