"""What is wrong or suspicious in a data set, found without a model; nothing here changes or mends anything."""
