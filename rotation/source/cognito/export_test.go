package cognito

import "github.com/hostrole/hostrole/rotation/credential"

// Read reads an answer of the enhanced flow, for fuzzing.
func Read(text []byte) (credential.Credential, error) {
	var out credentials
	if err := parse(text, &out); err != nil {
		return credential.Credential{}, err
	}
	return out.credential()
}

// ReadState reads a state file, for fuzzing.
func ReadState(text []byte) (identity string, err error) {
	kept, err := parseState(text)
	return kept.Identity, err
}
