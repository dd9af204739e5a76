"""The one way to build what tests need: tasks, documents, feedback, prepared data, models, runs."""
