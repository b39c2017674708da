"""What is on disk: projects, workspaces, jobs, state points and documents. No cache, no thread."""
