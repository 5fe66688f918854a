package systemd

// NewJournalTo is NewJournal with another way to send.
var NewJournalTo = newJournal
