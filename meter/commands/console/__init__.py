"""What all commands share toward their caller: arguments and help, messages, and the terminal."""
