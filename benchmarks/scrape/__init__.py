"""How long a scrape of a large cluster takes: many workers that answer as real ones do, and many queues."""
