"""The papers' claims on small data: variants of a model, each trained with several seeds."""
