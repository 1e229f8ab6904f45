"""The README is complete and agrees with the code."""

from pathlib import Path

from nexus.testing.readme_contract import Readme, ReadmeContract
from nexus_redis.config import RedisConfig

PATH = Path(__file__).parents[1] / "README.rst"


class TestReadme(ReadmeContract):
    plugin = "redis"
    path = PATH
    config = RedisConfig

    def make(self) -> None:
        return None


def test_it_shows_how_to_require_the_plugin():
    assert 'required = ["redis>=0.1"]' in Readme(PATH).text
