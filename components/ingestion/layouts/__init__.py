"""The ways in which a data folder may say which class and split each image belongs to: one module per layout."""
