"""What a loop needs of the operating system besides descriptors: threads and signals."""
