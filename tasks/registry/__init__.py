"""The promoted models, and what a challenger must show to become one."""
