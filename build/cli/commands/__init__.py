"""One coroutine for each task, which reads the options and calls what does the work: `building` and `published`."""
