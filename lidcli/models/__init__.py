"""Generative models: prior, likelihood and decoder, with a posterior attached for inference."""
