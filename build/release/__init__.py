"""The pipelines of the tasks: build, publish, copy, check, verify, clean. The steps are in the packages below."""
