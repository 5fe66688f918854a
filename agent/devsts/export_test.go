package devsts

var Like = like
