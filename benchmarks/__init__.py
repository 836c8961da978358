"""Side-by-side measurements that print ratios; nothing here asserts a time."""
