"""Point clouds: the training set, fitting a network to it, drawing with it, and how good that is."""
