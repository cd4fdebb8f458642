"""Encoders, MoCo v2, photometric redshifts and morphology: everything between a dataset and a judged network.

Conventions, for all of the package:
- images are (batch, band, y, x), nanomaggies per pixel; networks are fed dereddened views as `augment` makes them;
- a pixel that is not finite counts as sky where it enters a network (`stretch`);
- networks train on the training split and choose on validation; `evaluate` alone, and what it compares with, looks at
  the test split;
- a user's error is a `TrainerError` in one line; `python -m trainer` ends with status 2.

Nothing is imported here: each command imports what it needs.
"""
