"""shmbridge: posteriors to Sprint (RASR) and loss and error signal back, through shared memory."""
