"""Planning: where components run so that a picture comes soonest, or as its caller wishes."""
