"""The index in a Valkey (or Redis) server. It is imported only by agents whose settings name one."""
