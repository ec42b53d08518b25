"""The one place where sockets to addresses of strangers are opened."""
