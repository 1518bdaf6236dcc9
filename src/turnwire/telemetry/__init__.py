"""What the server says about itself: metrics, stage timing and logs. Never what clients said."""
