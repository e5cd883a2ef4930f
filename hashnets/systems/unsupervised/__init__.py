"""Systems that need no labels; most work on the features of an encoder that stays as it is."""
