"""The networks: Efficient U-Net, its blocks, the text encoder."""
