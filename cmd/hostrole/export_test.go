package main

// For the manual, which is made of the command line itself.
var Command = command
