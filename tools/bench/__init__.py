"""Times graphrt beside other frameworks: the same models, weights, batches and optimizer, in one interleaved run."""
