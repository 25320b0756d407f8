"""dMX: a differentiable search for the MX format of every layer of a language model."""
