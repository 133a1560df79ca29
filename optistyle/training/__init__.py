"""Training of networks of our own: the slim encoder and the feed-forward models."""
