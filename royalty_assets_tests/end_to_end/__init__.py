"""The product as a user meets it: commands, crashes, the UI in a browser."""
