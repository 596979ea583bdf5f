"""Amazon SQS as the broker."""
