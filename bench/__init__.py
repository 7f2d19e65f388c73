"""The measured claims, each beside a floor or a peer in the same run, since one machine's milliseconds prove nothing."""
