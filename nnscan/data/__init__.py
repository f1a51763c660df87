"""What a trial is trained on: data sets decoded once, folds, batches, augmentation, normalisation."""
