"""Policy gradient on the denoising process."""
