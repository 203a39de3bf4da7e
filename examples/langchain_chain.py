"""LCEL with a retriever and a callback: which of the recalled facts did the answer use? Runs offline as it stands.

With a real model and your own store:
    ENGRAM_CHAT_MODEL=openai:gpt-5.5 ENGRAM_URL=./.engram python examples/langchain_chain.py
"""

from __future__ import annotations

import os
import tempfile

from langchain.chat_models import init_chat_model
from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel, FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough

from engram_core import Engram
from engram_langchain import EngramCallbackHandler, EngramRetriever

SCOPE = "acme/office"
FACTS = ["The office key hangs behind desk 12.", "The office closes at eight.", "The canteen serves soup on Fridays."]
QUESTION = "Where does the office key hang?"
PROMPT = ChatPromptTemplate.from_template("Known:\n{known}\n\nQuestion: {question}")


def model() -> BaseChatModel:
    name = os.environ.get("ENGRAM_CHAT_MODEL")
    return init_chat_model(name) if name else FakeListChatModel(responses=["It hangs behind desk 12."])


def lines(documents: list[Document]) -> str:
    return "\n".join(document.page_content for document in documents)


def main() -> None:
    with tempfile.TemporaryDirectory() as directory, Engram.open(os.environ.get("ENGRAM_URL", directory)) as engram:
        memory = engram.memory(SCOPE)
        memory.add(FACTS)
        retriever = EngramRetriever(scope=SCOPE, engram=engram, k=3)
        chain = {"known": retriever | lines, "question": RunnablePassthrough()} | PROMPT | model() | StrOutputParser()
        answer = chain.invoke(QUESTION, {"callbacks": [EngramCallbackHandler()]})
        print(f"{QUESTION} {answer}\n")
        for fact in memory.list(limit=3):
            print(memory.explain(fact.id), end="\n\n")


if __name__ == "__main__":
    main()
