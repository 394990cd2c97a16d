"""Other ways to train a new head on InceptionV3, each as its guide does it; the pipeline is measured beside them."""
