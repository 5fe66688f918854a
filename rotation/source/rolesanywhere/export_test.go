package rolesanywhere

// The parsers, for fuzzing.
var (
	Parse             = parse
	ParseCertificates = parseCertificates
	ParseKey          = parseKey
	ParseSignature    = parseSignature
)
