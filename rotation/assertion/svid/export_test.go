package svid

// Pick reads an answer's message.
var Pick = pick
