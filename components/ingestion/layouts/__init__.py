"""How a data folder may say which class and split each image belongs to: a module for each layout."""
