"""How much the code of a network changes when one layer is compressed."""
