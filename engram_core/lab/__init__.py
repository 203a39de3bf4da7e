"""Lab: tries memory designs on tasks and keeps what it learns. It sees ports and rules; runners are given to it."""
