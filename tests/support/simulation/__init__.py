"""A simulated Celery cluster at accelerated time, which keeps a ledger of its own."""
