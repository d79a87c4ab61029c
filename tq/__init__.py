"""Tasks, retries, flows and workflows for asyncio."""
