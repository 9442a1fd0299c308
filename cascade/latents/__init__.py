"""The families of autoencoders: a picture to a latent, and a latent to a picture."""
