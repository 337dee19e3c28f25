"""The rules behind the API: prices, discounts, tax, prorations, cycles, collection, clocks."""
