"""Training of the mini model: data, text encoders, autoencoder, transformer, export, evaluation.

Not part of the installed package; run through ``make train-mini`` and ``make eval-mini``.
"""
