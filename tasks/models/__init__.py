"""Hugging Face checkpoints: a captioner, a summarizer, an embedder."""
